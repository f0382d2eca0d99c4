"""What every HTTP request passes through: its log line, its body, its route, the form of its error."""
