"""Two data sets in one run: their depth trains one codebook, their episodes one policy."""

import json
import shutil

import numpy as np
import pytest
from test_whole_path import SAMPLE, call

from depthtok.codes import CodeStore
from depthtok.episodes import EpisodeStore
