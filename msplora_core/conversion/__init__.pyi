from .disk import convert_adapter as convert_adapter
from .live import convert_to_lora as convert_to_lora
from .sharing_fit import convert_to_pyramid as convert_to_pyramid
