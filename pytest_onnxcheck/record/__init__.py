"""What a run left behind, as typed data that goes to JSON and back."""
