"""Codes that a data set brings: those of an export of depthtok's, back in a CodeStore."""
