"""Runs a function on several processes that torch.distributed connects by gloo."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

Check = Callable[[int, int], None]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
    return port


def start(rank: int, world: int, port: int, check: Check, library: str | None) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    torch.set_num_threads(1)
    if library:
        torch.ops.load_library(library)
        assert "csrc/cuda" in torch._C._dispatch_dump("vae_ext::gaussian_kl")
    dist.init_process_group("gloo", rank=rank, world_size=world)
    # Of what gloo lacks and torch makes up for.
    warnings.filterwarnings("ignore", message=".*alltoall.*")
    try:
        check(rank, world)
    finally:
        dist.destroy_process_group()


def spawn(check: Check, world: int, library: str | None = None) -> None:
    """check(rank, world) on each of `world` processes; the first exception is raised here, and ends
    them all. `library`: of kernels that replace those of the CPU."""
    mp.spawn(start, args=(world, free_port(), check, library), nprocs=world, join=True)
