"""An embedded Dataverse, Partner Center and sign-in service. Knows nothing of the connector."""
