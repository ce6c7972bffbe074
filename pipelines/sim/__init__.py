"""Robots in simulation: a small protocol, implemented by LIBERO. The only folder with MuJoCo."""
