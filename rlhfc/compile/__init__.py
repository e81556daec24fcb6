"""From a spec to actions: kinds, graph, sources, rendering, keys."""
