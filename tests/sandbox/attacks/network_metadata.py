"""Asks the cloud's metadata address for the machine's credentials."""

CLASS = 11
KIND = "program"
SEEN = "ESCAPED in its output"

import urllib.request

for address in ("169.254.169.254/latest/meta-data/", "[fd00:ec2::254]/latest/", "100.100.100.200/"):
    try:
        with urllib.request.urlopen(f"http://{address}", timeout=0.3) as answer:
            print("ESCAPED", answer.read())
    except OSError:
        pass
