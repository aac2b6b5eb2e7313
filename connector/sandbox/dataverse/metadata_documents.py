"""Tables, columns, relationships and keys as the metadata documents of the service ("Query table definitions").

Every document is complete; what an answer shows of it is decided by ``$select`` and ``$expand``. Names that begin with
an underscore are not shown: they carry what navigation properties lead to.
"""

from __future__ import annotations

from typing import Any

from connector.sandbox.schema import Column, Option, Schema, Table, metadata_id

PREFIX = "Microsoft.Dynamics.CRM."
_KINDS = {
    "String": "String",
    "Memo": "Memo",
    "Integer": "Integer",
    "BigInt": "BigInt",
    "Decimal": "Decimal",
    "Double": "Double",
    "Money": "Money",
    "Boolean": "Boolean",
    "DateTime": "DateTime",
    "Uniqueidentifier": "UniqueIdentifier",
    "Lookup": "Lookup",
    "Customer": "Lookup",
    "Owner": "Lookup",
    "Picklist": "Picklist",
    "State": "State",
    "Status": "Status",
    "EntityName": "EntityName",
    "Virtual": "",
}
COMMON = frozenset(
    {
        "LogicalName",
        "SchemaName",
        "EntityLogicalName",
        "AttributeType",
        "AttributeTypeName",
        "AttributeOf",
        "ColumnNumber",
        "DisplayName",
        "Description",
        "IsPrimaryId",
        "IsPrimaryName",
        "IsValidForRead",
        "IsValidForCreate",
        "IsValidForUpdate",
        "IsValidODataAttribute",
        "IsCustomAttribute",
        "IsManaged",
        "IsLogical",
        "RequiredLevel",
        "MetadataId",
    }
)


def kind_of(column_type: str) -> str:
    """The metadata type of an attribute type, such as ``StringAttributeMetadata``."""
    return f"{_KINDS[column_type]}AttributeMetadata"


def label(text: str | None) -> dict[str, Any]:
    """A label with its one translation (en-US)."""
    if text is None:
        return {"LocalizedLabels": [], "UserLocalizedLabel": None}
    one = {
        "Label": text,
        "LanguageCode": 1033,
        "IsManaged": True,
        "MetadataId": metadata_id("label", text),
        "HasChanged": None,
    }
    return {"LocalizedLabels": [one], "UserLocalizedLabel": dict(one)}


def table_document(schema: Schema, table: Table) -> dict[str, Any]:
    """An EntityDefinition."""
    attributes = [document for column in table.columns.values() for document in column_documents(column)]
    return {
        "LogicalName": table.name,
        "SchemaName": table.schema_name,
        "EntitySetName": table.entity_set,
        "LogicalCollectionName": table.collection_name,
        "CollectionSchemaName": f"{table.schema_name}s",
        "DisplayName": label(table.display_name),
        "DisplayCollectionName": label(f"{table.display_name}s"),
        "Description": label(None),
        "PrimaryIdAttribute": table.primary_id,
        "PrimaryNameAttribute": table.primary_name,
        "ObjectTypeCode": table.number,
        "OwnershipType": "UserOwned",
        "TableType": "Standard",
        "ChangeTrackingEnabled": table.change_tracking,
        "CanChangeTrackingBeEnabled": _managed(True, "canchangetrackingbeenabled"),
        "CanCreateAttributes": _managed(True, "cancreateattributes"),
        "IsOptimisticConcurrencyEnabled": table.optimistic_concurrency,
        "IsCustomEntity": table.is_custom,
        "IsManaged": True,
        "IsActivity": table.name == "task",
        "IsIntersect": False,
        "IsPrivate": False,
        "IsLogicalEntity": False,
        "MetadataId": metadata_id(table.name),
        "_Attributes": attributes,
        "_Keys": [_key_document(table, name, columns) for name, columns in table.keys.items()],
        "_ManyToOneRelationships": [
            relationship_document(schema, column, target)
            for column in table.columns.values()
            for target in column.targets
        ],
        "_OneToManyRelationships": [
            relationship_document(schema, column, table.name) for _, column in schema.incoming[table.name]
        ],
        "_ManyToManyRelationships": [],
    }


def column_documents(column: Column) -> list[dict[str, Any]]:
    """A column's definition, and that of the helper column with its text if it has one."""
    documents = [_column_document(column)]
    if column.is_lookup:
        documents.append(_helper_document(column, "String"))
    elif column.options:
        documents.append(_helper_document(column, "Virtual"))
    return documents


def relationship_document(schema: Schema, column: Column, target: str) -> dict[str, Any]:
    """A one-to-many relationship, the same from both sides."""
    name = column.relationships[target]
    return {
        "@odata.type": f"#{PREFIX}OneToManyRelationshipMetadata",
        "SchemaName": name,
        "RelationshipType": "OneToManyRelationship",
        "ReferencedEntity": target,
        "ReferencedAttribute": schema.table(target).primary_id,
        "ReferencingEntity": column.table,
        "ReferencingAttribute": column.name,
        "ReferencedEntityNavigationPropertyName": name,
        "ReferencingEntityNavigationPropertyName": column.navigation[target],
        "IsCustomRelationship": column.custom,
        "IsValidForAdvancedFind": True,
        "IsManaged": True,
        "MetadataId": metadata_id("relationship", name),
    }


def _managed(value: Any, name: str) -> dict[str, Any]:
    return {"Value": value, "CanBeChanged": True, "ManagedPropertyLogicalName": name}


def _column_document(column: Column) -> dict[str, Any]:
    document = {
        **_base(column, column.name, column.schema_name, column.type),
        "IsPrimaryId": column.primary_id,
        "IsPrimaryName": column.primary_name,
        "IsValidForCreate": not column.read_only,
        "IsValidForUpdate": not column.read_only and not column.primary_id,
        "RequiredLevel": _managed(column.required, "canmodifyrequirementlevelsettings"),
        "AttributeOf": None,
    }
    return document | _typed(column)


def _helper_document(column: Column, kind: str) -> dict[str, Any]:
    typed: dict[str, Any] = (
        {"MaxLength": 100, "Format": "Text", "FormatName": {"Value": "Text"}} if kind == "String" else {}
    )
    return {
        **_base(column, f"{column.name}name", f"{column.schema_name}Name", kind),
        "IsPrimaryId": False,
        "IsPrimaryName": False,
        "IsValidForCreate": False,
        "IsValidForUpdate": False,
        "RequiredLevel": _managed("None", "canmodifyrequirementlevelsettings"),
        "AttributeOf": column.name,
        **typed,
    }


def _base(column: Column, name: str, schema_name: str, kind: str) -> dict[str, Any]:
    return {
        "@odata.type": f"#{PREFIX}{kind_of(kind)}",
        "LogicalName": name,
        "SchemaName": schema_name,
        "EntityLogicalName": column.table,
        "AttributeType": kind,
        "AttributeTypeName": {"Value": f"{kind}Type"},
        "ColumnNumber": 1,
        "DisplayName": label(schema_name.rpartition("_")[2]),
        "Description": label(None),
        "IsValidForRead": True,
        "IsValidODataAttribute": kind != "Virtual",
        "IsCustomAttribute": column.custom,
        "IsManaged": True,
        "IsLogical": False,
        "MetadataId": metadata_id(column.table, name),
    }


def _typed(column: Column) -> dict[str, Any]:
    low, high = column.range
    if column.type in ("String", "Memo", "EntityName"):
        text = "TextArea" if column.type == "Memo" else "Text"
        return {"MaxLength": column.max_length, "Format": text, "FormatName": {"Value": text}}
    if column.type == "Integer":
        return {"MinValue": low, "MaxValue": high, "Format": "None"}
    if column.type == "BigInt":
        return {"MinValue": -(2**63), "MaxValue": 2**63 - 1}
    if column.type in ("Decimal", "Double", "Money"):
        return {"Precision": column.precision, "MinValue": low, "MaxValue": high}
    if column.type == "DateTime":
        return {
            "Format": "DateOnly" if column.date_only else "DateAndTime",
            "DateTimeBehavior": {"Value": "DateOnly" if column.date_only else "UserLocal"},
        }
    if column.is_lookup:
        return {"Targets": list(column.targets), "Format": None}
    if column.type == "Boolean":
        return {"DefaultValue": bool(column.default), "_OptionSet": _two_options(column), "_GlobalOptionSet": None}
    if column.options:
        default = -1 if column.default is None else column.default
        return {"DefaultFormValue": default, "_OptionSet": _option_set(column), "_GlobalOptionSet": None}
    return {}


def _option_set(column: Column) -> dict[str, Any]:
    return {
        "Name": f"{column.table}_{column.name}",
        "OptionSetType": column.type,
        "IsGlobal": False,
        "IsCustomOptionSet": column.custom,
        "DisplayName": label(column.schema_name),
        "Options": [_option(column, option) for option in column.options],
        "MetadataId": metadata_id("options", column.table, column.name),
    }


def _two_options(column: Column) -> dict[str, Any]:
    yes, no = column.options
    return {
        "Name": f"{column.table}_{column.name}",
        "OptionSetType": "Boolean",
        "IsGlobal": False,
        "IsCustomOptionSet": column.custom,
        "TrueOption": _option(column, yes),
        "FalseOption": _option(column, no),
        "MetadataId": metadata_id("options", column.table, column.name),
    }


def _option(column: Column, option: Option) -> dict[str, Any]:
    document: dict[str, Any] = {
        "Value": option.value,
        "Label": label(option.label),
        "Description": label(None),
        "Color": None,
        "IsManaged": True,
        "ExternalValue": "",
        "ParentValues": [],
        "MetadataId": None,
        "HasChanged": None,
    }
    if column.type == "Status":
        kind = {"@odata.type": f"#{PREFIX}StatusOptionMetadata"}
        return {**kind, **document, "State": option.state, "TransitionData": None}
    if column.type == "State":
        reasons = {"DefaultStatus": option.value + 1, "InvariantName": option.label}
        return {"@odata.type": f"#{PREFIX}StateOptionMetadata", **document, **reasons}
    return document


def _key_document(table: Table, name: str, columns: tuple[str, ...]) -> dict[str, Any]:
    return {
        "LogicalName": name,
        "SchemaName": name,
        "EntityLogicalName": table.name,
        "DisplayName": label(name),
        "KeyAttributes": list(columns),
        "EntityKeyIndexStatus": "Active",
        "IsCustomizable": _managed(True, "iscustomizable"),
        "IsManaged": True,
        "MetadataId": metadata_id("key", table.name, name),
    }
