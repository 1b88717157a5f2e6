"""Change data capture: what happens in MongoDB, told to RabbitMQ, in order and without loss."""
