"""Loads fresh copies of os, shutil and builtins, past functions that were set to None."""

CLASS = 10
KIND = "program"
SEEN = "the canary secret in its output"

import builtins
import importlib
import os
import shutil

for module in (os, shutil, builtins):
    importlib.reload(module)
try:
    shutil.rmtree("@CANARY_FOLDER@")
except OSError:
    pass
os.system("rm -rf @CANARY_FOLDER@")
