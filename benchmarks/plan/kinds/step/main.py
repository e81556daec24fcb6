"""Never run: the benchmark fills the store itself."""
