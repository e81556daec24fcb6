"""What a model says of preferences before it learns from them."""
