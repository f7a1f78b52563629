"""Reads the host's users, keys, homes and the canary."""

CLASS = 5
KIND = "program"
SEEN = "the canary secret or a host's file in its output"

import glob

WANTED = ["/etc/shadow", "/etc/hostname", "/etc/ssh/*", "/root/.*", "/root/*", "/home/*/*"]
for pattern in [*WANTED, "@CANARY_FILE@", "@PROJECT@/*", "/work/*", "/tmp/*", "/var/*/*"]:
    for path in glob.glob(pattern):
        try:
            with open(path) as file:
                print("ESCAPED", path, file.read(200))
        except OSError:
            pass
with open("/etc/passwd") as file:
    users = file.read().splitlines()
if len(users) > 3 or any("@HOST_USER@" in user for user in users):
    print("ESCAPED", users)
