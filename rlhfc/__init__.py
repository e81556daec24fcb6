"""rlhfc: one YAML file to an incremental, resumable RLHF pipeline."""

__version__ = "0.1.0"
