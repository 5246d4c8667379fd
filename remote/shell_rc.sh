# shellcheck shell=bash
# What an interactive shell of enter.py reads: the user's own profiles, then the training's variables once more. The
# images' .bashrc sets them all as they were when the pod started, PATH and PWD too.
exported=$(export -p)
for profile in /etc/profile ~/.bashrc; do
  # shellcheck disable=SC1090 # the user's own
  if [ -r "$profile" ]; then . "$profile"; fi
done
eval "$exported"
unset profile exported
