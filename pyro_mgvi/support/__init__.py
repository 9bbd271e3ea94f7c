"""What every room needs: optional packages, files written whole or not at all, versions."""
