"""The demo: an alliance on real data, from an empty folder to receipts that anybody verifies offline."""
