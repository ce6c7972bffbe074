"""Episodes, depth and codes as data sets that other tools read: LeRobot v3.0 and RLDS."""
