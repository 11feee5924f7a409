//! The storage items that the rules touch, by the chain's own names.
//!
//! Owns the list. Refuses to know hashers and types: the metadata does, and every item is looked up in it at start.
//! Only `devnet/` uses it.

macro_rules! items {
    ($($name:ident = $pallet:literal $item:literal;)*) => {
        /// A storage item.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Item { $($name,)* }

        impl Item {
            /// Every item with its pallet and its name, in the order of the variants.
            pub const ALL: &[(Self, &'static str, &'static str)] = &[$((Self::$name, $pallet, $item),)*];
        }
    };
}

items! {
    Account = "System" "Account";
    BlockHash = "System" "BlockHash";
    Number = "System" "Number";
    ParentHash = "System" "ParentHash";
    Digest = "System" "Digest";
    Events = "System" "Events";
    EventCount = "System" "EventCount";
    LastRuntimeUpgrade = "System" "LastRuntimeUpgrade";
    Now = "Timestamp" "Now";
    CurrentSlot = "Aura" "CurrentSlot";
    Authorities = "Aura" "Authorities";
    BalancesIssuance = "Balances" "TotalIssuance";
    SudoKey = "Sudo" "Key";
    CommitmentOf = "Commitments" "CommitmentOf";
    LastCommitment = "Commitments" "LastCommitment";
    LastBondsReset = "Commitments" "LastBondsReset";
    UsedSpaceOf = "Commitments" "UsedSpaceOf";
    MaxSpace = "Commitments" "MaxSpace";
    TimelockedIndex = "Commitments" "TimelockedIndex";
    RevealedCommitments = "Commitments" "RevealedCommitments";
    BeaconConfig = "Drand" "BeaconConfig";
    Pulses = "Drand" "Pulses";
    LastStoredRound = "Drand" "LastStoredRound";
    OldestStoredRound = "Drand" "OldestStoredRound";
    Keys = "SubtensorModule" "Keys";
    Uids = "SubtensorModule" "Uids";
    Owner = "SubtensorModule" "Owner";
    OwnedHotkeys = "SubtensorModule" "OwnedHotkeys";
    IsNetworkMember = "SubtensorModule" "IsNetworkMember";
    SubnetworkN = "SubtensorModule" "SubnetworkN";
    NetworksAdded = "SubtensorModule" "NetworksAdded";
    TotalNetworks = "SubtensorModule" "TotalNetworks";
    NetworkRegisteredAt = "SubtensorModule" "NetworkRegisteredAt";
    SubnetOwner = "SubtensorModule" "SubnetOwner";
    SubnetOwnerHotkey = "SubtensorModule" "SubnetOwnerHotkey";
    TokenSymbol = "SubtensorModule" "TokenSymbol";
    SubnetMechanism = "SubtensorModule" "SubnetMechanism";
    SubnetIdentity = "SubtensorModule" "SubnetIdentitiesV3";
    FirstEmissionBlock = "SubtensorModule" "FirstEmissionBlockNumber";
    SubtokenEnabled = "SubtensorModule" "SubtokenEnabled";
    Active = "SubtensorModule" "Active";
    Consensus = "SubtensorModule" "Consensus";
    Dividends = "SubtensorModule" "Dividends";
    ValidatorTrust = "SubtensorModule" "ValidatorTrust";
    ValidatorPermit = "SubtensorModule" "ValidatorPermit";
    Emission = "SubtensorModule" "Emission";
    Incentive = "SubtensorModule" "Incentive";
    LastUpdate = "SubtensorModule" "LastUpdate";
    Weights = "SubtensorModule" "Weights";
    Bonds = "SubtensorModule" "Bonds";
    MechanismCount = "SubtensorModule" "MechanismCountCurrent";
    BlockAtRegistration = "SubtensorModule" "BlockAtRegistration";
    Axons = "SubtensorModule" "Axons";
    Prometheus = "SubtensorModule" "Prometheus";
    NeuronCertificates = "SubtensorModule" "NeuronCertificates";
    Tempo = "SubtensorModule" "Tempo";
    LastEpochBlock = "SubtensorModule" "LastEpochBlock";
    PendingEpochAt = "SubtensorModule" "PendingEpochAt";
    SubnetEpochIndex = "SubtensorModule" "SubnetEpochIndex";
    BlocksSinceLastStep = "SubtensorModule" "BlocksSinceLastStep";
    LastStepBlock = "SubtensorModule" "LastMechansimStepBlock";
    MaxEpochsPerBlock = "SubtensorModule" "MaxEpochsPerBlock";
    WeightsSetRateLimit = "SubtensorModule" "WeightsSetRateLimit";
    MinAllowedWeights = "SubtensorModule" "MinAllowedWeights";
    MaxWeightsLimit = "SubtensorModule" "MaxWeightsLimit";
    WeightsVersionKey = "SubtensorModule" "WeightsVersionKey";
    CommitRevealEnabled = "SubtensorModule" "CommitRevealWeightsEnabled";
    CommitRevealVersion = "SubtensorModule" "CommitRevealWeightsVersion";
    WeightCommits = "SubtensorModule" "WeightCommits";
    TimelockedWeightCommits = "SubtensorModule" "TimelockedWeightCommits";
    RevealPeriodEpochs = "SubtensorModule" "RevealPeriodEpochs";
    StakeThreshold = "SubtensorModule" "StakeThreshold";
    Burn = "SubtensorModule" "Burn";
    MinBurn = "SubtensorModule" "MinBurn";
    MaxBurn = "SubtensorModule" "MaxBurn";
    BurnHalfLife = "SubtensorModule" "BurnHalfLife";
    BurnIncreaseMult = "SubtensorModule" "BurnIncreaseMult";
    RaoRecycled = "SubtensorModule" "RAORecycledForRegistration";
    MaxAllowedUids = "SubtensorModule" "MaxAllowedUids";
    MinAllowedUids = "SubtensorModule" "MinAllowedUids";
    ImmunityPeriod = "SubtensorModule" "ImmunityPeriod";
    MinNonImmuneUids = "SubtensorModule" "MinNonImmuneUids";
    ImmuneOwnerUids = "SubtensorModule" "ImmuneOwnerUidsLimit";
    RegistrationAllowed = "SubtensorModule" "NetworkRegistrationAllowed";
    PowRegistrationAllowed = "SubtensorModule" "NetworkPowRegistrationAllowed";
    MaxRegistrationsPerBlock = "SubtensorModule" "MaxRegistrationsPerBlock";
    RegistrationsThisBlock = "SubtensorModule" "RegistrationsThisBlock";
    TargetRegistrations = "SubtensorModule" "TargetRegistrationsPerInterval";
    MaxAllowedValidators = "SubtensorModule" "MaxAllowedValidators";
    Kappa = "SubtensorModule" "Kappa";
    Rho = "SubtensorModule" "Rho";
    Difficulty = "SubtensorModule" "Difficulty";
    MinDifficulty = "SubtensorModule" "MinDifficulty";
    MaxDifficulty = "SubtensorModule" "MaxDifficulty";
    AdjustmentInterval = "SubtensorModule" "AdjustmentInterval";
    AdjustmentAlpha = "SubtensorModule" "AdjustmentAlpha";
    BondsPenalty = "SubtensorModule" "BondsPenalty";
    BondsMovingAverage = "SubtensorModule" "BondsMovingAverage";
    ScalingLawPower = "SubtensorModule" "ScalingLawPower";
    ServingRateLimit = "SubtensorModule" "ServingRateLimit";
    ActivityCutoffFactor = "SubtensorModule" "ActivityCutoffFactorMilli";
    SubnetOwnerCut = "SubtensorModule" "SubnetOwnerCut";
    OwnerCutEnabled = "SubtensorModule" "OwnerCutEnabled";
    OwnerCutAutoLock = "SubtensorModule" "OwnerCutAutoLockEnabled";
    MinChildkeyTake = "SubtensorModule" "MinChildkeyTake";
    MinChildkeyTakePerSubnet = "SubtensorModule" "MinChildkeyTakePerSubnet";
    LiquidAlpha = "SubtensorModule" "LiquidAlphaOn";
    AlphaValues = "SubtensorModule" "AlphaValues";
    AlphaSteepness = "SubtensorModule" "AlphaSigmoidSteepness";
    Yuma3 = "SubtensorModule" "Yuma3On";
    TransferToggle = "SubtensorModule" "TransferToggle";
    BondsReset = "SubtensorModule" "BondsResetOn";
    MovingPrice = "SubtensorModule" "SubnetMovingPrice";
    SubnetVolume = "SubtensorModule" "SubnetVolume";
    SubnetTao = "SubtensorModule" "SubnetTAO";
    SubnetAlphaIn = "SubtensorModule" "SubnetAlphaIn";
    SubnetAlphaOut = "SubtensorModule" "SubnetAlphaOut";
    AlphaOutEmission = "SubtensorModule" "SubnetAlphaOutEmission";
    AlphaInEmission = "SubtensorModule" "SubnetAlphaInEmission";
    TaoInEmission = "SubtensorModule" "SubnetTaoInEmission";
    TotalHotkeyAlpha = "SubtensorModule" "TotalHotkeyAlpha";
    TotalHotkeyShares = "SubtensorModule" "TotalHotkeySharesV2";
    AlphaShare = "SubtensorModule" "AlphaV2";
    StakingHotkeys = "SubtensorModule" "StakingHotkeys";
    TotalIssuance = "SubtensorModule" "TotalIssuance";
    TaoWeight = "SubtensorModule" "TaoWeight";
    Identities = "SubtensorModule" "IdentitiesV2";
    BlockEmission = "SubtensorModule" "BlockEmission";
    LastLockCost = "SubtensorModule" "NetworkLastLockCost";
    MinLockCost = "SubtensorModule" "NetworkMinLockCost";
    LockReductionInterval = "SubtensorModule" "NetworkLockReductionInterval";
    LastRateLimited = "SubtensorModule" "LastRateLimitedBlock";
    SubnetLimit = "SubtensorModule" "SubnetLimit";
    SubnetLocked = "SubtensorModule" "SubnetLocked";
    StartCallDelay = "SubtensorModule" "StartCallDelay";
    AdminFreezeWindow = "SubtensorModule" "AdminFreezeWindow";
    LastHotkeySwap = "SubtensorModule" "LastHotkeySwapOnNetuid";
    TotalStake = "SubtensorModule" "TotalStake";
    Proxies = "Proxy" "Proxies";
}
