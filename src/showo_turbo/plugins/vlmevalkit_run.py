"""Run VLMEvalKit's `run.py` with the model registered.

python -m showo_turbo.plugins.vlmevalkit_run VLMEvalKit/run.py --data POPE --model tiny-turbo --mode infer
"""

import runpy
import sys
from pathlib import Path

from showo_turbo.plugins.vlmevalkit_model import register_models

if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.exit("usage: python -m showo_turbo.plugins.vlmevalkit_run PATH/TO/VLMEvalKit/run.py [its options]")
    register_models()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
