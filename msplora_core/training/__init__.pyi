from .callback import SpectralSnapshotCallback as SpectralSnapshotCallback
from .data.examples import Examples as Examples
from .data.task_data import TaskData as TaskData
from .presets import PRESETS as PRESETS
from .run import train_run as train_run
from .run_config import RunConfig as RunConfig
from .tasks import TASKS as TASKS
