"""The README's snippets of the server work as they stand, on another port."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import start_server

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "127.0.0.1:8000"


def test_the_snippets_of_the_readme_work(tmp_path: Path) -> None:
    found = [code for _, code in re.findall(r"^```(bash|python)\n(.*?)^```", README.read_text(), re.M | re.S)]
    shell, python = (code for code in found if ADDRESS in code and "make " not in code)
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    server = start_server(tmp_path, keys=False)
    try:
        (curl,) = (line for line in shell.splitlines() if line.startswith("curl "))
        own = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        address = server.url.removeprefix("http://")
        drawn = subprocess.check_output(["bash", "-c", curl.replace(ADDRESS, address)], env=os.environ | own)
        lines = python.replace(ADDRESS, address).splitlines()
        code = "\n".join([*lines[:-1], f"print({lines[-1]}.choices[0].message.content, image)"])
        answered = subprocess.check_output([sys.executable, "-c", code], env=os.environ | own, text=True)
    finally:
        server.stop()
    answer, image = answered.split()
    assert json.loads(drawn)["data"][0]["b64_json"] == image  # the same seed
    assert answer == "three"
