"""Which SSH algorithms are good enough, for both of the programs that podtasks speaks SSH with.

Sources: OpenSSH's own defaults and its list of legacy algorithms (openssh.com/legacy.html); RFC 9142 for key exchange.
"""

from __future__ import annotations

from collections.abc import Sequence

HOST_KEY = "ssh-ed25519"  # what podtasks makes for each pod, and the only kind it accepts
# For paramiko: what may be used. What a version of it does not have is left out.
KEY_EXCHANGES = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
)
CIPHERS = (
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
)
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
# RSA keys of users are fine; signing with SHA-1 is not.
OLD_SIGNATURES = ("ssh-rsa", "ssh-dss", "ssh-rsa-cert-v01@openssh.com", "ssh-dss-cert-v01@openssh.com")
# For OpenSSH: what is taken from its defaults, which are newer with each version. ssh_config(5): patterns after a dash.
OPENSSH_OPTIONS = {
    "HostKeyAlgorithms": HOST_KEY,
    "KexAlgorithms": "-*-sha1,diffie-hellman-group1-*,diffie-hellman-group14-*,diffie-hellman-group-exchange-*",
    "Ciphers": "-*-cbc,3des*,arcfour*,blowfish*,cast128*",
    "MACs": "-*sha1*,*md5*,*ripemd*,umac-64*",
    # PubkeyAcceptedAlgorithms, by the name that versions before 8.5 know as well.
    "PubkeyAcceptedKeyTypes": "-ssh-rsa*,ssh-dss*",
    "CASignatureAlgorithms": "-ssh-rsa",
}


def keep_modern(wanted: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """Return those of the wanted algorithms that a program has, in the wanted order."""
    return tuple(name for name in wanted if name in available)
