"""Makes a million empty files."""

CLASS = 9
KIND = "program"
SEEN = "a host that waits for ever, or a file outside"

for number in range(1_000_000):
    try:
        open(f"@TOKEN@-{number}", "w").close()
    except OSError:
        break
print("gone")
