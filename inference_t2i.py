"""Draw images: `python3 inference_t2i.py config=configs/showo_turbo_t2i.yaml prompt='a red circle'`.

Options are `key=value`; docs/show-o-users.md lists them all.
"""

from showo_turbo.compat.entry import inference_t2i

if __name__ == "__main__":
    inference_t2i()
