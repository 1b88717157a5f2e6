"""RabbitMQ: the one topology, a publisher with confirms, and a consumer with its own I/O thread."""
