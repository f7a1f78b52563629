"""Changes the interpreter and libraries that later runs use."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import os
import sys

for folder in {sys.prefix, sys.base_prefix, *sys.path, "/usr", "/lib", "/bin", "/etc", "/sys"}:
    for name in ("os.py", "@TOKEN@"):
        try:
            with open(os.path.join(folder, name), "a") as file:
                file.write("# changed\n")
            if folder not in ("/etc",):
                print("ESCAPED", folder, name)
        except OSError:
            pass
for module in (os, sys.modules["json"]):
    try:
        os.chmod(module.__file__, 0o777)
        print("ESCAPED", module.__file__)
    except OSError:
        pass
