from .definition import Study as Study
from .definition import Tune as Tune
from .local import LocalLauncher as LocalLauncher
from .running import ledger as ledger
from .running import run_study as run_study
from .slurm import SlurmLauncher as SlurmLauncher
from .study_file import read_study as read_study
