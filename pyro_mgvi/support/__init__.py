"""What every room needs: values of settings, optional packages, whole files, versions."""
