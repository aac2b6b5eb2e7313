"""``$metadata``: the service's data model as CSDL ("Web API service documents")."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from connector.sandbox.dataverse.values import edm_type
from connector.sandbox.schema import Column, Schema, Table

_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>'
    '<Schema Namespace="Microsoft.Dynamics.CRM" Alias="mscrm" xmlns="http://docs.oasis-open.org/odata/ns/edm">'
    '<EntityType Name="crmbaseentity" Abstract="true" />'
)
_READ_ONLY = (
    '<Annotation Term="Org.OData.Core.V1.Permissions"><EnumMember>Org.OData.Core.V1.PermissionType/Read</EnumMember>'
    "</Annotation>"
)


def edmx(schema: Schema, *, annotated: bool) -> bytes:
    """The model; ``annotated`` adds which properties are read-only and which sets track changes."""
    types = "".join(_entity_type(schema, table, annotated) for table in schema)
    sets = "".join(_entity_set(schema, table, annotated) for table in schema)
    container = f'<EntityContainer Name="System">{sets}</EntityContainer>'
    return f"{_HEAD}{types}{container}</Schema></edmx:DataServices></edmx:Edmx>".encode()


def _entity_type(schema: Schema, table: Table, annotated: bool) -> str:
    properties = "".join(_property(column, annotated) for column in table.columns.values())
    single = "".join(
        f'<NavigationProperty Name={quoteattr(name)} Type={quoteattr(f"mscrm.{target}")} Nullable="false" '
        f"Partner={quoteattr(column.relationships[target])}><ReferentialConstraint "
        f"Property={quoteattr(column.property_name)} ReferencedProperty={quoteattr(schema.table(target).primary_id)} />"
        "</NavigationProperty>"
        for name, (column, target) in table.navigations.items()
    )
    many = "".join(
        f"<NavigationProperty Name={quoteattr(column.relationships[table.name])} "
        f"Type={quoteattr(f'Collection(mscrm.{other.name})')} Partner={quoteattr(column.navigation[table.name])} />"
        for other, column in schema.incoming[table.name]
    )
    key = f"<Key><PropertyRef Name={quoteattr(table.primary_id)} /></Key>"
    return (
        f'<EntityType Name={quoteattr(table.name)} BaseType="mscrm.crmbaseentity">{key}{properties}{single}{many}'
        "</EntityType>"
    )


def _property(column: Column, annotated: bool) -> str:
    text = ' Unicode="false"' if edm_type(column) == "Edm.String" else ""
    head = f"<Property Name={quoteattr(column.property_name)} Type={quoteattr(edm_type(column))}{text}"
    if annotated and (column.is_lookup or column.read_only):
        return f"{head}>{_READ_ONLY}</Property>"
    return f"{head} />"


def _entity_set(schema: Schema, table: Table, annotated: bool) -> str:
    kind = f"Microsoft.Dynamics.CRM.{table.name}"
    bindings = "".join(
        f"<NavigationPropertyBinding Path={quoteattr(name)} Target={quoteattr(schema.table(target).entity_set)} />"
        for name, (_, target) in table.navigations.items()
    )
    if annotated and table.change_tracking:
        bindings += (
            '<Annotation Term="Org.OData.Capabilities.V1.ChangeTracking"><Record>'
            '<PropertyValue Property="Supported" Bool="true" /></Record></Annotation>'
        )
    return f"<EntitySet Name={quoteattr(table.entity_set)} EntityType={quoteattr(kind)}>{bindings}</EntitySet>"
