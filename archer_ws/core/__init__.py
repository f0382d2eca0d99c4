"""What every layer may use: errors, logging, identifiers, time. No module here knows a provider or a transport."""
