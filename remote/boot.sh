#!/usr/bin/env bash
# Process 1 of the pod: the SSH host key, the guard, then what the image would have started by itself.
#
# Comes with the guard, stop_pod.py and pod_environ.py in the pod's start command, which replaces the image's
# /start.sh and therefore ends by calling it. Nothing here may make the script exit: RunPod would start the
# container again and go on billing.

directory=${PODTASKS_DIR:-/opt/podtasks}
start_script=${PODTASKS_START_SCRIPT:-/start.sh}
guard_pid=
start_pid=
quick_deaths=0

say() { printf '%s podtasks: %s\n' "$(date -u '+%F %T')" "$*"; }

# The key made locally for this pod becomes its identity. Then this script replaces itself without the key in
# its environment: /proc/1/environ is what every program on the pod is given.
take_host_key() {
  [ -n "${PODTASKS_HOST_KEY:-}" ] || return 0
  mkdir -p /etc/ssh
  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
  (umask 077 && base64 -d <<<"$PODTASKS_HOST_KEY" >/etc/ssh/ssh_host_ed25519_key)
  printf '%s\n' "${PODTASKS_HOST_PUBLIC_KEY:-}" >/etc/ssh/ssh_host_ed25519_key.pub
  exec env -u PODTASKS_HOST_KEY bash "${BASH_SOURCE[0]}" "$@"
}

# What an earlier start of this container left: process ids and deadlines that mean nothing now, and secrets of a run
# that is gone. The time in grace_began stays: a container that is started again and again must not get its grace time
# each time.
forget_earlier_start() {
  mkdir -p "$directory"
  rm -f "$directory"/{guard.sock,lease.json,supervisor.pid,notify.json} "$directory"/secrets-*.json*
}

# By the programs every image may have, for a pod on which the guard cannot run.
stop_without_guard() {
  local id=${RUNPOD_POD_ID:-} url=${RUNPOD_API_URL:-https://api.runpod.io/v2}
  say "$1: stopping the pod"
  while :; do
    runpodctl pod stop "$id" || runpodctl stop pod "$id" ||
      curl --silent --show-error --max-time 30 --config - "$url/pods/$id/action" <<<"
        header = \"Authorization: Bearer ${RUNPOD_API_KEY:-}\"
        header = \"Content-Type: application/json\"
        data = \"{\\\"action\\\": \\\"stop\\\"}\""
    sleep 30
  done
}

require_python() {
  command -v python3 >/dev/null && return
  say 'the image has no python3: installing it'
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3
  command -v python3 >/dev/null || stop_without_guard 'python3 could not be installed'
}

start_guard() {
  guard_started=$SECONDS
  python3 "$directory/guard.py" </dev/null >>"$directory/guard.log" 2>&1 &
  guard_pid=$!
}

supervisor_pid() { cat "$directory/supervisor.pid" 2>/dev/null; }

supervisor_lives() {
  local pid
  pid=$(supervisor_pid) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

restart_guard() {
  say "the guard $guard_pid has died: starting it again"
  if [ $((SECONDS - guard_started)) -ge 5 ]; then quick_deaths=0; else quick_deaths=$((quick_deaths + 1)); fi
  if [ "$quick_deaths" -ge 20 ] && ! supervisor_lives; then stop_without_guard 'the guard cannot run'; fi
  [ "$quick_deaths" -le 1 ] || sleep 1
  start_guard
}

# What the official images' /start.sh does for SSH, for an image that has none.
start_sshd() {
  if [ ! -x /usr/sbin/sshd ]; then
    say 'the image has no SSH server: installing openssh-server'
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openssh-server
    # The package makes host keys of its own; ours stays, the others would be further identities.
    [ -z "${PODTASKS_HOST_PUBLIC_KEY:-}" ] || rm -f /etc/ssh/ssh_host_{rsa,ecdsa,dsa}_key{,.pub}
  fi
  mkdir -p ~/.ssh /run/sshd
  chmod 700 ~/.ssh
  if [ -n "${PUBLIC_KEY:-}" ] && ! grep -qxF -- "$PUBLIC_KEY" ~/.ssh/authorized_keys 2>/dev/null; then
    printf '%s\n' "$PUBLIC_KEY" >>~/.ssh/authorized_keys
  fi
  chmod 600 ~/.ssh/authorized_keys
  [ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -A
  /usr/sbin/sshd || say 'sshd did not start'
}

start_image() {
  if [ -f "$start_script" ]; then
    bash "$start_script" &
    start_pid=$!
  else
    say "the image has no $start_script: starting sshd"
    start_sshd &
  fi
}

sshd_runs() { grep -qx sshd /proc/[0-9]*/comm 2>/dev/null; }

# The pod goes on without it: whoever rented it can look at what happened, and the guard stops it in time.
replace_start_script() {
  local code
  wait "$start_pid"
  code=$?
  start_pid=
  say "$start_script has ended with $code; the pod stays until its guard stops it"
  sshd_runs || start_sshd &
}

# The platform ends the pod, SIGKILL follows in seconds: the training gets its SIGTERM, the record its end.
end() {
  local pid
  trap '' TERM
  if supervisor_lives; then
    pid=$(supervisor_pid)
    say "SIGTERM: ending the run of supervisor $pid"
    kill -TERM "$pid"
    for _ in {1..100}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  fi
  # shellcheck disable=SC2086 # start_pid may be empty
  kill $start_pid $guard_pid 2>/dev/null
  exit 143
}

take_host_key "$@"
trap end TERM
forget_earlier_start
require_python
start_guard
start_image
while :; do
  if [ -n "$start_pid" ] && ! kill -0 "$start_pid" 2>/dev/null; then replace_start_script; fi
  kill -0 "$guard_pid" 2>/dev/null || restart_guard
  wait -n
done
