"""Every command as a Python function: typed arguments in, a typed result out, nothing printed."""
