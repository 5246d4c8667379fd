#!/bin/bash
# What the official images' /start.sh does (runpod/containers container-template/start.sh), in its order:
# sshd only with PUBLIC_KEY, then the environment file, then wait. One difference: SIGTERM ends it at once,
# where the original ignores it and is killed after the grace time.
trap 'exit 0' TERM

if [[ -x /pre_start.sh ]]; then /pre_start.sh; fi

if [[ $PUBLIC_KEY ]]; then
    mkdir -p ~/.ssh
    echo "$PUBLIC_KEY" >> ~/.ssh/authorized_keys
    chmod -R 700 ~/.ssh
    if ! compgen -G '/etc/ssh/ssh_host_*_key' > /dev/null; then
        ssh-keygen -q -t ed25519 -f /etc/ssh/ssh_host_ed25519_key -N ''
    fi
    mkdir -p /run/sshd
    /usr/sbin/sshd
fi

# The original's quoting, with its faults: a quote or a newline in a value breaks the file.
printenv | grep -E '^[A-Z_][A-Z0-9_]*=' | grep -v '^PUBLIC_KEY' |
    awk -F = '{ val = $0; sub(/^[^=]*=/, "", val); print "export " $1 "=\"" val "\"" }' > /etc/rp_environment
grep -qxF 'source /etc/rp_environment' ~/.bashrc || echo 'source /etc/rp_environment' >> ~/.bashrc

if [[ -x /post_start.sh ]]; then /post_start.sh; fi

sleep infinity &
wait
