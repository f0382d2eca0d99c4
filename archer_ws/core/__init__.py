"""What every layer may use: errors, logging, identifiers, time. Nothing here knows a provider or a transport."""
