"""Takes memory until there is none."""

CLASS = 9
KIND = "program"
SEEN = "ESCAPED in its output"

blocks = []
try:
    for _ in range(64):
        blocks.append(bytearray(b"x") * (1 << 26))
    print("ESCAPED", len(blocks))
except MemoryError:
    blocks.clear()
    print("no more")
