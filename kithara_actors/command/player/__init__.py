"""The engine of `kithara play`: what to play, decoding it while it arrives, and where the sound goes."""

__all__: list[str] = []
