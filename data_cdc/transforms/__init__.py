"""What may be done to a change event between capture and broker. Imports no client."""

from data_cdc.transforms.chain import Chain, Transform, TransformFailed, as_delete
from data_cdc.transforms.load import fingerprint, load_chain

__all__ = ["Chain", "Transform", "TransformFailed", "as_delete", "fingerprint", "load_chain"]
