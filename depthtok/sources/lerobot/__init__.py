"""LeRobot data sets, v2.1 and v3.0: parquet, and videos or pictures inside the parquet."""
