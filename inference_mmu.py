"""Ask about images: `python3 inference_mmu.py config=configs/showo_turbo_mmu.yaml question='What is it?'`.

Options are `key=value`; docs/show-o-users.md lists them all.
"""

from showo_turbo.compat.entry import inference_mmu

if __name__ == "__main__":
    inference_mmu()
