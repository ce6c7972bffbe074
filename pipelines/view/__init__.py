"""What `depthtok view` shows, and rerun, which shows it."""
