"""Every environment variable that decides something, with its meaning.

Values that a launch *sets* for its ranks are in :func:`rlhfc.compile.render.launch_environment`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VARIABLES = {
    "RLHFC_MIRROR": "TOML file whose table `[mirror]` maps hub ids to local copies",
    "RLHFC_REMOTE": "shared store that `run` restores from and `push` and `pull` use: a folder or a URL",
    "RLHFC_SIGNERS": "file of public keys, as `authorized_keys`: only what one of them signed is pulled",
    "RLHFC_SIGN_WITH": "file of the private key that `push` signs with",
    "RLHFC_TRUST": "folders whose code may run, besides those of `rlhfc trust`; absolute, separated by `:`",
    "XDG_CONFIG_HOME": "where `rlhfc/config.toml` and `rlhfc/trusted` lie; default `~/.config`",
    "XDG_CACHE_HOME": "where the Hugging Face cache lies when no variable below says so; also `rlhfc/`, "
    "where indexes of ledgers on network file systems lie; default `~/.cache`",
    "HF_HOME": "Hugging Face's folder; its cache is `hub` inside it",
    "HF_HUB_CACHE": "Hugging Face's cache of models and data sets",
    "CUDA_VISIBLE_DEVICES": "which of the machine's GPUs may be used",
    "NO_COLOR": "set to anything: no colours",
    "TERM": "`dumb`: no colours",
}

RESERVED = frozenset(
    {
        *("PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONUNBUFFERED"),
        *("CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR", "OMP_NUM_THREADS"),
        *("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"),
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT"),
        *("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"),
    }
)
"""Variables that a launch gets from other settings or from its launcher; so do all ``RLHFC_…``."""

HARMLESS_NAMES = re.compile(
    r"[A-Z][A-Z0-9_]*_(TOKEN|API_KEY|SECRET|PASSWORD)"
    r"|(NCCL|GLOO)_(DEBUG|DEBUG_SUBSYS|SOCKET_IFNAME|IB_DISABLE|P2P_DISABLE|SHM_DISABLE|TIMEOUT)"
    r"|CUDA_LAUNCH_BLOCKING|CUBLAS_WORKSPACE_CONFIG|NVIDIA_TF32_OVERRIDE|PYTORCH_(CUDA_)?ALLOC_CONF"
    r"|TORCH_(DISTRIBUTED_DEBUG|CPP_LOG_LEVEL|SHOW_CPP_STACKTRACES|NCCL_ASYNC_ERROR_HANDLING)"
    r"|(MKL|OPENBLAS|NUMEXPR|RAYON)_NUM_THREADS|MALLOC_ARENA_MAX|TRANSFORMERS_VERBOSITY"
)
"""Variables that any spec may set: no program takes a file, a library or a command from them."""


@dataclass(frozen=True)
class Environment:
    """The variables of :data:`VARIABLES` as values; an empty one counts as unset, but for the GPUs."""

    mirror_file: Path | None
    user_configuration: Path
    trusted_file: Path
    trusted: tuple[Path, ...]
    hub_cache: Path
    index_folder: Path
    remote: str | None
    signers: Path | None
    signing_key: Path | None
    visible_gpus: str | None


def read_environment(variables: Mapping[str, str] = os.environ) -> Environment:
    """Read the environment once."""
    home = Path.home()
    config_home = _path(variables, "XDG_CONFIG_HOME") or home / ".config"
    cache_home = _path(variables, "XDG_CACHE_HOME") or home / ".cache"
    hub_home = _path(variables, "HF_HOME") or cache_home / "huggingface"
    return Environment(
        mirror_file=_path(variables, "RLHFC_MIRROR"),
        user_configuration=config_home / "rlhfc" / "config.toml",
        trusted_file=config_home / "rlhfc" / "trusted",
        trusted=tuple(
            Path(name).expanduser() for name in variables.get("RLHFC_TRUST", "").split(os.pathsep) if name
        ),
        hub_cache=_path(variables, "HF_HUB_CACHE") or hub_home / "hub",
        index_folder=cache_home / "rlhfc",
        remote=variables.get("RLHFC_REMOTE") or None,
        signers=_path(variables, "RLHFC_SIGNERS"),
        signing_key=_path(variables, "RLHFC_SIGN_WITH"),
        visible_gpus=variables.get("CUDA_VISIBLE_DEVICES"),
    )


def count_gpus(environment: Environment, devices: Path = Path("/dev")) -> int:
    """GPUs that this process may use, told from device files: asking torch would take seconds."""
    present = sum(1 for _ in devices.glob("nvidia[0-9]*")) if devices.is_dir() else 0
    if environment.visible_gpus is None:
        return present
    visible = [name for name in environment.visible_gpus.split(",") if name.strip() not in ("", "-1")]
    return min(present, len(visible))


def _path(variables: Mapping[str, str], name: str) -> Path | None:
    value = variables.get(name)
    return Path(value).expanduser() if value else None
