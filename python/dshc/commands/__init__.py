"""What each command of ``dshc`` does; :mod:`dshc.cli` holds their names, flags and help."""
