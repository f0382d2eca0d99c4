"""What every HTTP request meets: its log line, its body, its route, the form of its error."""
