"""Restarts by torchrun.

The processes of a job find each other by addresses in a store that torchrun holds. The store survives a restart, with
the addresses of the processes that have ended, so that the new ones cannot connect (seen with torch 2.13, its c10d
rendezvous and gloo). On one machine the restarted processes therefore exchange addresses in a store of their own. On
several machines the counts of restarts may differ; there, torchrun holds a new store for each start if
TORCH_DISABLE_SHARE_RDZV_TCP_STORE is 1.
"""

import os
import socket

from torch.distributed import TCPStore


def use_own_store() -> None:
    """Choose another store in the environment, if torchrun has restarted the processes of one machine.

    Call it before the processes are connected. All of them must call it.
    """
    environment = os.environ
    attempt = int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))
    one_machine = environment.get("LOCAL_WORLD_SIZE") == environment.get("WORLD_SIZE")
    if attempt == 0 or not one_machine or environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    launcher = TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), is_master=False)
    key = f"showo_turbo/port/{attempt}"
    if environment["RANK"] == "0":
        with socket.socket() as free:
            free.bind((environment["MASTER_ADDR"], 0))
            launcher.set(key, str(free.getsockname()[1]))
    environment["MASTER_PORT"] = launcher.get(key).decode()
    environment["TORCHELASTIC_USE_AGENT_STORE"] = "False"
