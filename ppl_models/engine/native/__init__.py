"""The native backend: kernels of inductor, driven by C++ without Python."""
