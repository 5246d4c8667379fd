# shellcheck shell=bash
# What an interactive shell of enter.py reads: the user's own profiles, then the PATH of the training again.
for profile in /etc/profile ~/.bashrc; do
  # shellcheck disable=SC1090 # the user's own
  if [ -r "$profile" ]; then . "$profile"; fi
done
unset profile
PATH=$PODTASKS_SHELL_PATH
unset PODTASKS_SHELL_PATH
