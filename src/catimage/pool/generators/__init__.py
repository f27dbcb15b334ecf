"""Generator kinds, one package per kind."""
