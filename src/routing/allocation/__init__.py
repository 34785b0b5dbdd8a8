"""Which class of waiting tasks goes where while token limits bind."""
