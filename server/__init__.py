"""The program that serves one log over gRPC. It imports tlog; tlog never imports it."""
