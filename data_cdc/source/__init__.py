"""What MongoDB tells: the change stream, and reads of whole collections."""
