#!/bin/bash
# What the official images' /start.sh does (runpod/containers container-template/start.sh), in its order:
# sshd only with PUBLIC_KEY, then the environment file, then wait. One difference: SIGTERM ends it at once,
# where the original ignores it and is killed after the grace time. POD_ROOT is set where this machine cannot
# sandbox and the pod has no / of its own.
root=${POD_ROOT:-}
trap 'exit 0' TERM

if [[ -x $root/pre_start.sh ]]; then "$root/pre_start.sh"; fi

if [[ $PUBLIC_KEY ]]; then
    mkdir -p ~/.ssh
    echo "$PUBLIC_KEY" >> ~/.ssh/authorized_keys
    chmod -R 700 ~/.ssh
    if ! compgen -G "$root/etc/ssh/ssh_host_*_key" > /dev/null; then
        ssh-keygen -q -t ed25519 -f "$root/etc/ssh/ssh_host_ed25519_key" -N ''
    fi
    mkdir -p /run/sshd 2> /dev/null
    /usr/sbin/sshd -f "$root/etc/ssh/sshd_config"
fi

# The original's quoting, with its faults: a quote or a newline in a value breaks the file.
printenv | grep -E '^[A-Z_][A-Z0-9_]*=' | grep -v '^PUBLIC_KEY' |
    awk -F = '{ val = $0; sub(/^[^=]*=/, "", val); print "export " $1 "=\"" val "\"" }' > "$root/etc/rp_environment"
line="source $root/etc/rp_environment"
grep -qxF "$line" ~/.bashrc || echo "$line" >> ~/.bashrc

if [[ -x $root/post_start.sh ]]; then "$root/post_start.sh"; fi

sleep infinity &
wait
