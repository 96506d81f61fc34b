"""Files written whole or not at all; YAML against typed models; base models on this machine."""
