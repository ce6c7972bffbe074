"""Robots in simulation: one small protocol, and LIBERO behind it. The only folder with MuJoCo."""
